"""Web pages for TrainingJobs: rendered on the server with Jinja2, kept up to date by htmx and server-sent events.

Every page works without JavaScript. Pages use the services and the credentials of the REST API.
"""
