"""The project's own measurements. `scripts/bench NAME...` runs them; results/ holds the JSON."""
