"""The MLflow mirror of the journals. mlflow is imported inside functions, never by an import."""
