cd /tmp/h3
(timeout 280 python3 scan.py t24s pty 9600 secondary 24 twin 0; timeout 280 python3 scan.py t24both pty 9600 both 24 twin 3) > r_t24 2>&1 &
timeout 400 python3 scan.py b60 pty 9600 secondary 60 bld 4 > r_b60 2>&1 &
wait
