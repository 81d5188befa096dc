"""The configuration of a run: frozen values, readable without torch.

Every other package may import this one; it imports nothing of the project.
"""
