"""Draws the faces of a photo: python examples/quickstart.py PHOTO [ADDRESS [KEY]]; the service must run."""

import sys
from pathlib import Path

from eye2face import Client, Eye2FaceError

photo = Path(sys.argv[1])
address = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8000"
key = sys.argv[3] if len(sys.argv) > 3 else None

with Client(address, key=key) as client:
    try:
        synthesis = client.synthesize_faces(photo, person="all")
    except Eye2FaceError as error:
        sys.exit(f"{error.code}: {error}")

for number, face in enumerate(synthesis.faces):
    path = Path(f"{photo.stem}-face-{number}.{face.format}")
    path.write_bytes(face.image)
    eye = face.eye
    print(f"{path}: from the {eye.side} eye of person {eye.person}, {eye.size_px:.0f} px wide")
print(f"Synthetic faces by the model {synthesis.model.name}: they identify nobody.")
