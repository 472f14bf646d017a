"""One module a subcommand of ``riskfuse``; importing it stays cheap."""
