"""Compare the bill of a provider with the tracked costs, to the last cent.

The command line and the dashboard share this package. It reads bills (`reading`), joins
their charges with costs (`joining`), and puts every cent into one category
(`deciding`). It knows neither the server nor the network.
"""
