"""The bridge to camera systems: events or pictures on MQTT in, faces out to MQTT and a webhook."""
