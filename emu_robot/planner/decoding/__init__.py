"""From ids to ids: how a plan is sampled from the transformer. Knows no robots."""
