"""The networks of the paper and its successors."""
