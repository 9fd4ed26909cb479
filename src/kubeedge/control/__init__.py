"""The unix socket by which the commands of this machine talk to the agent or the cloud process.

module.py    the module "control": listens, answers with JSON, turns errors into statuses
requests.py  reads what a request's body asks for

Lives elsewhere: what each process answers (kubeedge.agent.control, the cloud's administration API), the caller (kubeedge.cli.control).
"""
