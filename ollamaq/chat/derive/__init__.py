"""A Go TEMPLATE from a Jinja chat template: its syntax tree, translated."""
