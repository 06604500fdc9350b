"""The kinds of Neutron."""
