"""The library: what the command line does, as functions with typed results.

Mistakes raise a `ModsearchError` that says what is wrong, where, and what would be right. Heavy
libraries are imported by the function that needs them, so that status and reports work without
torch.
"""
