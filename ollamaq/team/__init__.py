"""Modelfiles of a team: presets and a catalogue in TOML, merged, held to a policy, rendered, compared with servers."""
