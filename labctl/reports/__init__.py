"""Rows, statistics, claims, tables: from run folders and published bundles. No torch."""
