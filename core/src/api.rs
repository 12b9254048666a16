//! Commands, events and error codes, shared by the library, the control socket, the command line and the app.
