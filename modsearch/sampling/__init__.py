"""The ledger of a study: what was asked, what it was told. Optuna is used here alone."""
