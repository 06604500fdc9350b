"""The sample tenant's resources: one module for each service, each made through public APIs only."""
