"""How fast the service is beside its floor and its peers; needs nothing but this machine."""
