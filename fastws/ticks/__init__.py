"""The tick feed that `fastws serve` serves."""
