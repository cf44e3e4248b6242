"""The `keras-resnet` command as `python -m keras_resnet`."""

from keras_resnet_command import main

if __name__ == "__main__":
    main()
