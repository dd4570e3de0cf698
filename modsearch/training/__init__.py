"""A candidate and a budget to a record: plan, train, score."""
