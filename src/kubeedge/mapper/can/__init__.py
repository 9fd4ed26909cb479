"""The mapper of CAN buses."""
