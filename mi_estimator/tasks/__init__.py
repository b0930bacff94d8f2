"""Joint distributions of features and a label with known mutual information, and their suites."""
