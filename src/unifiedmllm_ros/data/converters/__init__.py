"""Converters: public data sets, in the layout they are published in, to our conversations."""
