"""What the help of the command line says of kinds.

The kinds themselves say it (`Kind.nameable`, `Kind.find_anywhere`), but to import them takes longer than to print a
help text: a test holds these names to theirs.
"""

# The kinds of which each resource is one tenant's own, so that it can be looked up without naming the tenant.
OWNED_KINDS = ("server", "image", "network", "volume")
# All kinds of which an operator can name single resources.
NAMEABLE_KINDS = (*OWNED_KINDS, "user", "flavor", "keypair")
