"""Endpoints of Services: the addresses of the pods behind them."""
