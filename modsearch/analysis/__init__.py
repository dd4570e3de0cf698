"""From records to fits, comparisons and claims; numpy and scipy, no torch."""
