#!/bin/sh
# Train the networks that ship: sh training/ship.sh fer2013.npz [PYTHON]. Each step goes on where it was when it is
# started again, and what is finished is passed over. About 9 core-hours on an Intel Xeon without bf16 units; on one
# with them leave `--precision float32` away.
set -e
data=$1 python=${2:-python}
long="--data $data --precision float32 --votes-weight 1 --shift-px 4 --spoiled-share 0.2 --shrunk-share 0.1"

# A net ten times as large as ResNet20, and ResNet20 on its own, which then teach together.
$python -m training.train --out runs/teacher --network wide-resnet $long --low-side 32 --low-share 0.65 --epochs 44 \
    --mixup 0.3 --peak-learning-rate 2e-3 --weight-decay 0.05
$python -m training.train --out runs/resnet20 --network timeconv-resnet20 $long --low-side 32 --low-share 0.7 \
    --epochs 64 --peak-learning-rate 4e-3
$python -m training.teach --data "$data" --teachers runs/teacher/best.pt runs/resnet20/best.pt --views 8 \
    --out data/taught --shift-px 4 --spoiled-share 0.2 --shrunk-share 0.1 --shaken-share 0.2

taught="$long --shaken-share 0.2 --taught data/taught --teacher-weight 0.7" low="--low-side 32 --low-share"
$python -m training.train --out runs/resnet20-taught --network timeconv-resnet20 $taught $low 0.4 --epochs 20 \
    --start runs/resnet20/best.pt --peak-learning-rate 2e-3
# MobileNetV2 makes one pixel of 32, from which it learns next to nothing.
$python -m training.train --out runs/mobilenetv2-taught --network timeconv-mobilenetv2 $taught --epochs 20 --batch 64 \
    --peak-learning-rate 2e-3
$python -m training.train --out runs/mini-taught --network timeconv-mini-xception $taught $low 0.6 --epochs 32
$python -m training.train --out runs/mini-2d-taught --network mini-xception-2d $taught $low 0.6 --epochs 32
for name in mini mini-2d; do
    network=timeconv-mini-xception
    [ $name = mini ] || network=mini-xception-2d
    $python -m training.train --out runs/$name-long --network $network $taught --epochs 16 \
        --start runs/$name-taught/best.pt --peak-learning-rate 4e-3
done
