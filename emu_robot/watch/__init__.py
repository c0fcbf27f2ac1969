"""A live view of a policy: its plan, its pictures, its actions, the safety gate. Nothing here commands a robot."""
