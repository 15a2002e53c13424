"""The models behind HTTP: ``seg-zero serve``.

service.py    requests of many users to one policy and one SAM2, batched
remote.py     a policy that another machine serves over the OpenAI API
uploads.py    an untrusted upload to an image and a question
answers.py    what is sent back
app.py        routes, limits and status codes
meters.py     Prometheus metrics
command.py    options, start and stop
"""
