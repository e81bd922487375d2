"""What GPU time costs: prices, bills, estimates, advice and budgets. Pure; decides nothing about jobs."""
