"""The page of `vice report`: one HTML file of numbers, charts and cases."""
