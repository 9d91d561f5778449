"""Weight files of every origin: opening, identifying, assigning to modules, writing. No networks."""
