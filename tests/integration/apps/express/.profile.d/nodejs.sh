# As the Node.js buildpack writes it.
export PATH="$HOME/.heroku/node/bin:$HOME/node_modules/.bin:$PATH"
export NODE_ENV=${NODE_ENV:-production}
