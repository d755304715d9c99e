"""An HTTP service and a page around a session: `app.make_app` gives the application, `server` lets it listen."""
