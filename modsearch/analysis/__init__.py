"""From records to fits, comparisons and claims; numpy, scipy and pandas, no torch."""
