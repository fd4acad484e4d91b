"""The steps from an observation to an event; `outlay._capture.recorder` lists them."""
