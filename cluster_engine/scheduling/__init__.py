"""When batches are due, and one running of each: slots, what is owed, retries, and the loop around them.

Knows no Ray: a batch is a command that ends with an exit code, and the truth about past ones is in the store.
"""
