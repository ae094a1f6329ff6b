"""What is measured of trained models: in no key, for it decides no number of a training."""
