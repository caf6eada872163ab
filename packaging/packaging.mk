# packaging.mk - what the build and the tests need from the distribution; installing.

APT := DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends
