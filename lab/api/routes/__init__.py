"""What the API answers, one file for each noun: each route translates, calls the engine, and translates back."""
