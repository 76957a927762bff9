"""The Lab tab: samplers side by side, on the plane and on pictures. Its routes compute, static/lab/*.js draws.

Nothing of it is imported or drawn before the tab is opened first.
"""
