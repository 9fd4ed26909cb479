"""How containers run: one face (base), and the embedded implementation on conmon and crun."""
