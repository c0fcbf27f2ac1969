"""What an arm is: its joints and limits, how its drivers present it, and what weights take its numbers to mean."""
