"""The web server: guard, sign-in, own routes, uploads, pictures, whose turn it is."""
