"""Pictures and an instruction in, a plan out; and a whole task carried out plan by plan."""
