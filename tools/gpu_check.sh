#!/usr/bin/env bash
# Ten minutes on a machine with a GPU: is a pruning step as fast as a plain one there, what does it hold and wait for, how fast
# are images read, and does a small run go through to its selection? Prints tables, and ends with 0 if all of it went.
#
#     tools/gpu_check.sh [cuda|cpu]      cpu: the same in small, to try the script itself
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python}
device=${1:-cuda}
output=$(mktemp -d)
trap 'rm -rf "$output"' EXIT
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
if [ "$device" = cuda ]; then
    size=(--model-size R50 --image-size 416 --batch-size 16 --rounds 30)
    images=500 depth=50 width=256 iterations=240 workers=4
else
    size=(--model-size R18 --image-size 64 --batch-size 2 --rounds 2)
    images=40 depth=18 width=64 iterations=12 workers=0
fi
benchmark="$python projects/benchmark/benchmark.py"
config=configs/demo/prune_yolov3_tiny_R18.yaml

"$python" -c "import sys, torch
if '$device' == 'cuda' and not torch.cuda.is_available(): sys.exit('error: torch sees no GPU; try tools/gpu_check.sh cpu')
print(torch.__version__, torch.cuda.get_device_name() if '$device' == 'cuda' else 'CPU')"
"$python" datasets/make_demo_set.py --output "$output/demo" --images $images --test-images 10 > /dev/null
data=(--register "demo_gpu=voc:$output/demo:trainval" SOLVER.IMS_PER_BATCH 8 MODEL.DEVICE "$device")

echo; echo "== A training step: plain and pruning"
$benchmark overhead --device "$device" "${size[@]}"
echo; echo "== Reading an image, CPU time: from its small copy, from its file, and by Detectron2's mapper"
$benchmark reading --rounds 5 --config-file $config "${data[@]:0:2}"
echo; echo "== A whole run with ResNet-$depth"
start=$SECONDS
"$python" tools/train_net.py --config-file $config "${data[@]}" MODEL.RESNETS.DEPTH $depth \
    MODEL.RESNETS.RES2_OUT_CHANNELS $width SOLVER.MAX_ITER $iterations ADAPRUNER.WARMUP 0.2 \
    DATALOADER.NUM_WORKERS $workers OUTPUT_DIR "$output/run" > "$output/log.txt" 2>&1 || { tail -30 "$output/log.txt"; exit 1; }
grep -h "Asking the finished\|Solving for\|keeps\|kept" "$output/run/log.txt" | sed 's/.*: //' | tail -5
echo "$images images, $iterations iterations, selection and page: $((SECONDS - start)) s"
