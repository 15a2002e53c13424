"""The models behind HTTP: ``seg-zero serve``.

service.py    requests of many users to one policy and one SAM2, batched
uploads.py    an untrusted upload to an image and a question
answers.py    the response
app.py        routes, limits and status codes
meters.py     Prometheus metrics
server.py     uvicorn, and how it ends
"""
