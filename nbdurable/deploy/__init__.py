"""The same handlers elsewhere: `app()` names services, `official` serves them by restate-sdk."""
