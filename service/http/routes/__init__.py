"""The routes of the service: photos to faces and eyes, verification, and what it tells of itself."""
