#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# `make run`, inside the build tree; see session/run.py.
exec python3 "$(dirname "$0")/session/run.py" "$@"
