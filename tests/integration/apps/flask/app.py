"""A real Flask app for the integration tests, on the Python of the stack."""
import os
import signal

from flask import Flask, jsonify

app = Flask(__name__)


@app.get("/")
def index():
    return f"flask {os.environ['DYNO']}\n"


@app.get("/env")
def env():
    return jsonify(dict(os.environ))


@app.get("/kill")
def kill():
    """Ends the whole web server: gunicorn's parent, not only this worker."""
    os.kill(os.getppid(), signal.SIGKILL)
    return "bye\n"
