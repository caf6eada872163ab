# Numbered lines without end: a lost or doubled one shows. The pace leaves room for other tests.
i=0
while :; do
    i=$((i + 1))
    echo "number $i"
    [ $((i % 10)) -ne 0 ] || sleep 0.05
done
