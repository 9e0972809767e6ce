"""The bridge to network video recorders: Frigate's MQTT events in, faces out."""
